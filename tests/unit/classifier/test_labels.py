"""Class texts: timm's, the data set's, and the one that appears twice."""

from __future__ import annotations

from collections import Counter

from timm.data.imagenet_info import ImageNetInfo

from perturbnet.classifier.labels import imagenet100_classes, imagenet_classes, imagenet_labels


def test_the_shipped_texts_are_timms() -> None:
    info = ImageNetInfo()
    for known in imagenet_classes():
        assert known.text == info.index_to_description(known.index)
        assert known.synset == info.index_to_label_name(known.index)


def test_one_text_appears_twice() -> None:
    twice = [text for text, times in Counter(imagenet_labels()).items() if times > 1]
    assert twice == ["crane"]
    assert [known.index for known in imagenet_classes() if known.text == "crane"] == [134, 517]


def test_a_hundred_different_classes() -> None:
    classes = imagenet100_classes()
    assert len({known.index for known in classes}) == len({known.text for known in classes}) == 100
    assert (classes[0].text, classes[99].text) == ("bonnet, poke bonnet", "borzoi, Russian wolfhound")
