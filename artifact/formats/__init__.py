"""The file formats that are decoded, one module each: what a header says, and how pixels are read.

Pillow knows many more, each a surface for attacks.
"""
