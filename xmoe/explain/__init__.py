"""A model, a spectrogram and a plan -> why this answer, why these experts, why these windows.

    subject.py        the classifier that is explained, without gradients
    trace.py          the answer once more, with gradients to everything on its way
    targets.py        which number is explained: an object with a ``score``
    scales.py         bins and frames <-> Hz and seconds; where a map lies
    maps/             the methods: Grad-CAM, saliency, gradient x input, occlusion
    mask_sound.py     cells removed from the sound itself, for experts on sound
    faithfulness.py   is a map true? deletion and insertion
    judge.py          verdicts on the maps of one clip, compared with random maps
    asked.py          experts in a fixed order: what each says alone, and the answer without it
    reasons.py        all of it for one clip, as plain arrays
    show/             reasons as sentences, numbers, pictures, and bytes for a page
    clip.py           sentences, numbers and pictures of one clip, written to a folder
    survey.py         faithfulness of every method over a sample of clips

A new method is one function in ``maps/methods.py``; a new question is one class in ``targets.py``.
The letters of shapes are those of ``xmoe.mixture``.
"""
