"""LIDC-IDRI: annotations, nodules, DICOM slices and series, and the cohort made of them."""
