"""Loaders of the public data sets.

A reader turns a user's copy into records with the labels that the file names state; `load` makes a
data set of them. The rules are the same for all sets:

- only base names are read, each must fit its set's grammar as a whole, and lists are sorted;
- training identities are numbered ``0 .. N-1``, test identities keep their numbers;
- cameras are the official number minus one, whether or not a copy has images of all of them;
- outfits are numbered over all people, and those of training and test people never meet, though
  some sets give the same number to a person of either;
- a missing folder, an empty split or a name that fits no rule is an error; another number of
  images, people or cameras than the official one is a notice, shown on every run.

Labels in ``Sample.extra``, by which the protocols choose and compare:

================ ===================================================================================
market1501       ``sequence``, ``frame``, ``box``; the query side of the variant ``multi-query``
                 also holds the hand-drawn boxes, their ``split`` is ``multi-query``
duke,            ``frame``
occluded-duke
cuhk03           ``view`` (1, 2), ``pair`` (1 to 5, where the names say it), of the classic protocol
                 ``partition`` (1 to 20). Cameras are ``2 (pair - 1) + view - 1``, since the five
                 pairs are ten cameras; the views, 0 and 1, where names do not say the pair
msmt17           ``slot`` (``0303morning``), ``daytime`` (``morning``)
prcc             ``camera``: A, B or C (camera ids 0, 1 and 2). B and C are queries, A the gallery
ltcc             ``outfit`` as in the name; ``cloth_changing``: 1 or 0 after the lists of ``info``,
                 missing where they are missing
vcclothes        ``camera``: 1 to 4 (camera ids 0 to 3); ``outfit`` as in the name
celeb-reid       ``number``: the running number of the person's image
deepchange       ``tracklet``, ``day``, ``hour``; a person's outfit is the day
mars             ``tracklet`` as in the names; in test ``asked``: 1 of the queries' tracks, which
                 are in the gallery, too, 0 of others
ccvid            ``session``, and ``camera`` as in the names; the cameras of session 3 are others
                 than those of the first two, their ids go on at 12
================ ===================================================================================

Training samples of sets that number the people of training and test together also carry ``person``,
that number; test samples have it as their identity.

Sets without cameras (Partial-REID, Partial-iLIDS, Occluded-REID, Celeb-reID, LaST) have camera 0
throughout, as `folder/pid` has: what needs several refuses them, and in their protocols nothing is
junk.
"""
