"""What runs inside an upstream process, around an unchanged upstream script."""
