import reid_search


def test_the_package_says_what_it_is_for():
    assert reid_search.__doc__
