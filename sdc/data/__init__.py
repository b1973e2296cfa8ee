"""Real images: read from a name, a folder or an archive, and kept as one verified file of tensors each.

Imports: ground.
Read: sets, store; then named, download, tiny; image_folder, members, images, originals; canonical, tiny_classes,
imagenet_subsets; torchvision_folders, archived, tiny_tensors, pickled; reading.
"""
