"""From which similarity on two pictures show the same person, and how sure that is.

Arrays and labels in, results out; files and commands are elsewhere:

- `measuring`: `calibrate`, the whole of it;
- `pairs`: the pairs that a protocol counts, a block of similarities at a time;
- `counting`: how many pairs there are at every similarity, the halves and the searches apart;
- `curves`: ROC, equal error rate and operating points of such counts;
- `open_set`: how often a search finds a known person and is silent about an unknown one;
- `resampling`, `groups`: intervals over people; cameras and clothes;
- `probability`: similarity to probability, and how far that is to be believed;
- `results`, `pictures`, `tables`: what is found, and how it is shown;
- `trained`: whether anybody was trained on.
"""
