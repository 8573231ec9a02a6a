import reid_track


def test_the_package_says_what_it_is_for():
    assert reid_track.__doc__
