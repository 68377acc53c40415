"""What the package draws itself: phantoms and stand-in sources. Nothing outside knows of it."""
