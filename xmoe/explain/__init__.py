"""A model, a spectrogram and a plan -> why this answer, why these experts, why these windows.

    trace.py          the answer once more, with gradients to everything on its way
    targets.py        which number is explained: an object with a ``score``
    grid.py           cells of the stem map and of experts <-> bins and frames of the spectrogram
    gradcam.py        Grad-CAM on the stem map and on any expert's last map
    own_maps.py       the map of an expert that hears, on its own spectrogram and on the run's
    mask_sound.py     cells rubbed out of the sound itself, for experts that hear it
    asked.py          experts in a fixed order: what each says alone, and the answer without it
    methods.py        every method by one name and one call: gradcam, saliency, gradient_x_input
    faithfulness.py   is the map true? pointing game, energy in box, deletion and insertion
    localise.py       the same over a synthetic set whose boxes are known
    scales.py         bins and frames <-> Hz and seconds
    numbers.py        what ``explanation.json`` says
    render.py         the pictures, with render_routing.py and render_voices.py
    clip.py           all of it for one clip, written to a folder

A new method is one function in ``methods.py``; a new question is one class in ``targets.py``. The
letters of shapes are those of ``xmoe.mixture``.
"""
