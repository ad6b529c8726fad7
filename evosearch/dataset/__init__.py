"""The user's data in files: .npz, .csv, .parquet, a folder of images by class, CIFAR's binary form. Torch-free; nothing is unpickled."""
