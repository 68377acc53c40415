"""Confounders from where an image is made: positioning, motion, contrast, resolution, and what CT adds to them.

Lengths are in mm, on an image whose shorter side is `field_mm`, or in shares of the image: so an image of another size
is altered alike. NumPy, SciPy, Pillow and scikit-image draw them; none needs torch.
"""
