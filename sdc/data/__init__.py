"""Real images: read from a name, a folder or an archive, and kept as one verified file of tensors each.

Imports: ground.
Read: sets, store; then named, download, tiny; image_folder, members, images; canonical, tiny_classes;
torchvision_folders, archived, pickled; reading.
"""
