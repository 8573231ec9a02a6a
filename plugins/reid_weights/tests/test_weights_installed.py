import reid_weights


def test_the_package_says_what_it_is_for():
    assert reid_weights.__doc__
