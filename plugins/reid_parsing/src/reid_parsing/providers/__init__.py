"""Labelled data that users bring: folders of images and label maps, COCO-DensePose."""
