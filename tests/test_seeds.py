import hashlib

import numpy as np

from sourcematters import seeds


def test_derive_is_the_first_63_bits_of_a_sha256_of_the_identity():
    digest = hashlib.sha256(b'[7, "carrier", "img"]').hexdigest()
    assert seeds.derive(7, "carrier", "img") == int(digest[:16], 16) // 2


def test_an_identity_is_not_its_parts_run_together():
    assert seeds.derive(1, "ab", "c") != seeds.derive(1, "a", "bc")
    assert seeds.derive(1, 2) != seeds.derive(12)


def test_uniform_does_not_depend_on_company_or_order():
    together = seeds.uniform(3, ["a", "b", "c"], "x")
    assert seeds.uniform(3, ["c"], "x")[0] == together[2]
    assert np.array_equal(seeds.uniform(3, ["c", "b", "a"], "x"), together[::-1])


def test_uniform_is_uniform():
    # Kolmogorov-Smirnov at n = 4000: D above 0.035 has a probability below 1e-4.
    values = np.sort(seeds.uniform(0, [str(i) for i in range(4000)], "ks"))
    assert np.abs(values - np.arange(4000) / 4000).max() < 0.035


def test_generators_of_two_identities_differ_and_one_repeats():
    assert seeds.generator(0, "a").random() == seeds.generator(0, "a").random()
    assert seeds.generator(0, "a").random() != seeds.generator(0, "b").random()
