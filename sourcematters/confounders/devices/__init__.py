"""Things of metal and loaded plastic in a chest film, a file each: they stop X-rays and hide nothing."""
