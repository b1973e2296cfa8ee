"""Real images: read from a name, a folder or an archive, and kept as one verified file of tensors each."""
