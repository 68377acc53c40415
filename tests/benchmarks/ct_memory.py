"""What reading CT costs: peak memory and time over generated series, projected to all of LIDC-IDRI.

    PYTHONPATH=tests python tests/benchmarks/ct_memory.py --folder /tmp/ct

writes 40 series of 130 slices of 512 x 512 (2.7 GB of DICOM) below FOLDER, indexes them with an empty and then
with a full cache, puts them into series, reads every slice as Hounsfield units, one at a time, and deletes
FOLDER. It prints seconds and the process's peak memory after each step, and what
1,010 patients with 244,527 slices would take at that rate. `--series 1881 --size 16` is the whole collection
in number of files (1 GB), to see what the tables hold in memory. Not part of the tests.
"""

import argparse
import resource
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from dicom_files import write_series

from sourcematters.cohorts.lidc import dicom, series

LIDC_IDRI = 244_527


def peak_mib() -> float:
    """Highest resident memory of this process so far; the unit is KiB on Linux, bytes on macOS."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def report(step: str, start: float, files: int) -> None:
    seconds = time.perf_counter() - start
    print(
        f"{step:24} {seconds:8.1f} s {1e3 * seconds / files:8.3f} ms a slice   "
        f"{LIDC_IDRI:,} slices: {seconds / files * LIDC_IDRI / 60:6.1f} min   peak {peak_mib():6.0f} MiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="does not exist yet; deleted at the end")
    parser.add_argument("--series", type=int, default=40)
    parser.add_argument("--slices", type=int, default=130)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    cache = options.folder / ".index.csv"
    try:
        n = options.series * options.slices
        hu = np.random.default_rng(0).integers(-1024, 1500, (options.size, options.size), dtype=np.int16)
        print(
            f"{n:,} slices of {options.size} x {options.size}; the interpreter and its libraries {peak_mib():.0f} MiB"
        )
        start = time.perf_counter()
        for patient in range(options.series):
            write_series(options.folder, patient, positions=2.5 * np.arange(options.slices), hu=hu)
        report("write", start, n)
        for step in ("index, empty cache", "index, full cache"):
            start = time.perf_counter()
            slices, problems = series.index(options.folder, cache=cache, workers=options.workers)
            report(step, start, n)
        assert len(slices) == n and problems.empty
        start = time.perf_counter()
        table, scans, _ = series.series(slices)
        report("series", start, n)
        assert len(scans) == options.series and (scans["missing"] == 0).all()
        start = time.perf_counter()
        for path in table["path"]:
            image = dicom.read_hu(path)
        report("read", start, n)
        assert np.array_equal(image, hu)
        seconds = (time.perf_counter() - start) / options.series
        kib = table.memory_usage(deep=True).sum() / n / 2**10
        print(
            f"read: {seconds:.2f} s a series; table {kib:.1f} KiB a slice; cache {cache.stat().st_size / n:.0f} bytes"
        )
    finally:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
