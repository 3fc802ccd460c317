"""``MoEAudioClassifier``: fit, evaluate, predict, explain, save and load, as scikit-learn users do.

It holds settings and, once fitted or loaded, a run folder and its predictor; everything else is
done by the stages below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xmoe.annotate.recording import Annotated, AnnotateOptions, annotate_recording, merge_rules
from xmoe.annotate.thresholds import read_thresholds
from xmoe.audio.hearing import Audio, hear, is_one
from xmoe.base.config import LEARNING_RATE, Device, FitKind, TaskName, TrainConfig
from xmoe.base.device import choose_device
from xmoe.base.errors import ConfigError, DatasetError, RunFolderError
from xmoe.base.files import read_json, write_bytes, write_json
from xmoe.base.progress import Progress, silent
from xmoe.explain.clip import explain_clip
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.reasons import find_reasons
from xmoe.explain.subject import Subject, pick_surest
from xmoe.explain.survey import survey_store
from xmoe.pictures import draw_robustness, to_png
from xmoe.pipeline.architecture import describe_usage
from xmoe.pipeline.evaluation import Answerer, answer_here, judge, load_own, temporary_store
from xmoe.pipeline.fit import fit_run
from xmoe.pipeline.outcome import pick_groups, write_evaluation
from xmoe.pipeline.refit import grow_run
from xmoe.pipeline.request import FitRequest, Profiler, read_cards
from xmoe.policy.policy import NO_OVERRIDES, PolicyOverrides
from xmoe.predict.answer import Answer
from xmoe.predict.conformal import Conformal
from xmoe.predict.predictor import Predictor
from xmoe.profile.assemble import profile_dataset
from xmoe.robustness.measure import measure_robustness
from xmoe.run.folder import RunFile, RunFolder
from xmoe.run.publish import fetch_run, published
from xmoe.storage.mirror import is_address
from xmoe.training.budget import parse_budget
from xmoe.training.session import Engine, train_here


class MoEAudioClassifier:
    """A classifier of recordings: a mixture of experts routed by explanations.

    ``task`` follows from the labels unless given. ``budget`` is ``"accuracy"``, a share of it such
    as ``"99%"``, ``"latency"``, a mean cost such as ``"20ms"``, or a mean number of experts.
    ``auto_config=False`` skips the race of front ends and decides by rules alone.
    ``explainability`` is the default method of ``explain``.
    """

    def __init__(
        self,
        task: TaskName | None = None,
        budget: str | float = "accuracy",
        auto_config: bool = True,
        *,
        explainability: str = "gradcam",
        device: Device = "auto",
        seed: int = 0,
    ) -> None:
        parse_budget(budget, 10**6)
        self.task = task
        self.budget = budget
        self.auto_config = auto_config
        self.explainability = check_method(explainability)
        self.device: Device = device
        self.seed = seed
        self._folder: RunFolder | None = None
        self._predictor: Predictor | None = None

    def __repr__(self) -> str:
        state = f"run={str(self.run_dir)!r}" if self._folder else "not fitted"
        return f"MoEAudioClassifier(task={self.task!r}, budget={self.budget!r}, {state})"

    @classmethod
    def load(cls, run_dir: str | Path, *, device: Device = "auto") -> MoEAudioClassifier:
        """Load a run from a folder or address; RunFolderError where it is missing or altered."""
        folder = RunFolder(fetch_run(run_dir))
        config = folder.read_config()
        model = cls(config.model.task, config.routing.budget, device=device, seed=config.train.seed)
        model._adopt(folder)
        return model

    def fit(
        self,
        dataset_dir: str | Path,
        metadata_csv: str | Path | None = None,
        *,
        out_dir: str | Path,
        fit: FitKind | None = None,
        epochs: int | None = None,
        batch_size: int = 32,
        num_workers: int | tuple[int, int] = 1,
        learning_rate: float = LEARNING_RATE,
        policy: Literal["race", "rule"] | None = None,
        overrides: PolicyOverrides | Mapping[str, Any] = NO_OVERRIDES,
        backbones: Sequence[str | Path] = (),
        trust: Sequence[str] = (),
        strict: bool = False,
        samples: bool = True,
        test_fold: int | None = None,
        resume: bool = False,
        engine: Engine = train_here,
        profiler: Profiler = profile_dataset,
        progress: Progress = silent,
    ) -> MoEAudioClassifier:
        """Profile the recordings, choose settings for them, train, calibrate and evaluate.

        Everything is written to ``out_dir``. ``fit`` is the policy's choice unless given, and
        ``gradient`` where ``epochs`` are; ``backbones`` are cards of pretrained networks that may
        become experts; the rest is explained in ``TrainConfig``, ``PolicyOverrides`` and
        ``FitRequest``. Raises DatasetError, ConfigError, AudioError (``strict`` only) or
        StorageError, each naming what is wrong and how to fix it.
        """
        train = TrainConfig(
            fit=fit or ("closed" if epochs is None else "gradient"),
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=self.seed,
            num_workers=num_workers,
            device=self.device,
        )
        request = FitRequest(
            dataset_dir=dataset_dir,
            metadata_csv=metadata_csv,
            out_dir=Path(out_dir),
            task=self.task,
            budget=self.budget,
            train=train,
            fit_by_policy=fit is None and epochs is None,
            policy=policy or ("race" if self.auto_config else "rule"),
            overrides=PolicyOverrides.model_validate(overrides),
            backbones=read_cards(backbones, trust),
            strict=strict,
            samples=samples,
            test_fold=test_fold,
            resume=resume,
            engine=engine,
            profiler=profiler,
        )
        with published(out_dir, resume=resume, progress=progress) as here:
            folder = fit_run(replace(request, out_dir=here), progress=progress)
        self._adopt(RunFolder(fetch_run(out_dir)) if is_address(out_dir) else folder)
        return self

    def add_expert(
        self,
        spec: str | Path,
        *dataset_dirs: str | Path,
        trust: Sequence[str] = (),
        progress: Progress = silent,
    ) -> list[dict[str, Any]]:
        """Add an expert to the run, as ``xmoe expert add`` does; returns what was tried of it.

        ``spec`` is a family, or a file with a spec or with the card of a pretrained network, which
        is taken only where it pays. ``dataset_dirs`` hold the clips that the run was fitted to.
        """
        grown = grow_run(self.run_dir, str(spec), dataset_dirs, trust=trust, progress=progress)
        self._adopt(RunFolder(self.run_dir))
        return [row.model_dump() for row in grown.rows if row.name in grown.tried]

    def _adopt(self, folder: RunFolder) -> None:
        self._predictor = Predictor.load(folder.path, device=choose_device(self.device))
        self._folder = folder
        self.task = self._predictor.config.model.task

    @property
    def predictor(self) -> Predictor:
        """The fitted classifier in this process; ConfigError before ``fit`` or ``load``."""
        if self._predictor is None:
            raise ConfigError("the classifier is not fitted", mend="call fit, or load a run folder")
        return self._predictor

    @property
    def run_dir(self) -> Path:
        """The run folder; ConfigError before ``fit`` or ``load``."""
        _ = self.predictor  # says so where nothing is fitted
        assert self._folder is not None
        return self._folder.path

    @property
    def classes_(self) -> npt.NDArray[np.str_]:
        """Class names [C], in the order of the columns of ``predict_proba``."""
        return np.array(self.predictor.config.classes)

    def predict(
        self,
        audio: Audio,
        sample_rate_hz: int | None = None,
        *,
        k: int | None = None,
        k_max: int | None = None,
    ) -> Answer:
        """Answer for a recording: a path, bytes, an open file, or samples.

        Samples are an array or a tensor, [S], [channels, S] or [S, channels], of floats or of PCM
        integers, or a list of floats, at ``sample_rate_hz``. ``Answer.warnings`` names what is
        doubtful. ``k`` fixes how many experts are asked, ``k_max`` bounds it. Raises AudioError for
        a file that cannot be read, InputError for other samples and for no number of experts.
        """
        return self.predictor.answer(hear(audio, sample_rate_hz), k=k, k_max=k_max)

    def predict_proba(
        self, audios: Audio | Iterable[Audio], sample_rate_hz: int | None = None
    ) -> npt.NDArray[np.float64]:
        """Calibrated probabilities [n, C] of recordings, or [1, C] of one.

        The rows of an array [n, S] are recordings; see ``predict`` for what one may be.
        """
        several: Iterable[Any] = [audios] if is_one(audios, sample_rate_hz) else audios  # type: ignore[assignment]
        answers = [self.predict(audio, sample_rate_hz) for audio in several]
        rows = [list(answer.probabilities.values()) for answer in answers]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.classes_))

    def predict_set(
        self, audio: Audio, sample_rate_hz: int | None = None, *, alpha: float = 0.1
    ) -> tuple[str, ...]:
        """The labels that a recording (see ``predict``) may have, the likeliest first.

        They include the true one but for a share ``alpha`` of recordings, as far as these come from
        sources such as those that were held out (``conformal.json`` tells how often they did).
        Raises ConfigError for a run without held-out answers, ValueError unless 0 < alpha < 1.
        """
        path = self.run_dir / RunFile.CONFORMAL
        if not path.is_file():
            what = "the run keeps no held-out answers, so its sets would promise nothing"
            mend = "train with --fit closed on recordings of one label each"
            raise ConfigError(what, where=str(path), mend=mend)
        conformal = RunFolder(self.run_dir).read_record(RunFile.CONFORMAL, Conformal)
        p = np.array(list(self.predict(audio, sample_rate_hz).probabilities.values()))
        picked = conformal.pick(p, alpha)
        order = np.argsort(-p, kind="stable")
        return tuple(str(self.classes_[i]) for i in order if picked[i])

    def find_events(
        self,
        path: str | Path,
        hop_s: float,
        *,
        wake: float | None = None,
        progress: Progress = silent,
        **rules: Any,
    ) -> Annotated:
        """The events of a recording of any length, from windows ``hop_s`` apart.

        With ``wake`` pretrained networks hear only what may be an event with that chance. ``rules``
        replace those of the run (``MergeRules``; ``threshold`` is for all classes).
        """
        known = read_thresholds(RunFolder(self.run_dir), self.predictor.config.classes)
        options = AnnotateOptions(hop_s, merge_rules(known, **rules), wake=wake)
        return annotate_recording(self.predictor, path, options, progress=progress)

    def explain(
        self,
        audio_path: Audio,
        *,
        save_dir: str | Path,
        method: str | None = None,
        sample_rate_hz: int | None = None,
    ) -> dict[str, Any]:
        """Draw why this answer, why these experts, why this K and these windows.

        Writes ``gradcam.png``, ``why_experts.png``, ``why_k.png``, ``saliency_router.png``,
        ``patch_routing.png`` and ``explanation.json``, with a sentence for each question, to
        ``save_dir`` and returns the content of the last. Of a recording of several segments the one
        that is surest of the recording's answer is explained; ``recording`` tells which, and what
        all of them say together.
        """
        predictor, method = self.predictor, check_method(method or self.explainability)
        samples, rate = hear(audio_path, sample_rate_hz)[:2]
        segments = predictor.cut(samples, rate)
        specs, sound = predictor.measure(segments), predictor.sound_of(segments)
        answers = predictor.answer_segments(specs, sound)
        surest = pick_surest(predictor, answers)
        start_s = segments[surest].start_s
        reasons = find_reasons(
            Subject.of(predictor),
            specs[surest].to(predictor.device),
            sound=None if sound is None else sound.rows(slice(surest, surest + 1)),
            method=method,
            span_s=segments[surest].span_s,
        )
        shown = {"shown_s": [start_s, start_s + predictor.config.spectro.segment_s]}
        told = {"label", "probability", "uncertain", "segments"}
        recording = predictor.summarise(answers).model_dump(mode="json", include=told) | shown
        return explain_clip(reasons, save_dir, recording=recording)

    def evaluate(
        self,
        dataset_dir: str | Path,
        metadata_csv: str | Path | None = None,
        *,
        split: str = "test",
        test_fold: int | None = None,
        out_dir: str | Path | None = None,
        explained: int = 0,
        answerer: Answerer = answer_here,
        progress: Progress = silent,
    ) -> dict[str, Any]:
        """Figures with intervals on one split, also written to ``out_dir`` if given.

        ``explained`` clips are explained by every method; how faithful each is comes back as
        ``explanations`` and, in a folder, as ``explanations.json``. ``answerer`` asks the clips.
        """
        predictor = self.predictor
        dataset = load_own(
            predictor.config, dataset_dir, metadata_csv, split, test_fold, progress=progress
        )
        examples, survey = dataset.split(split), None
        answered, bad = answerer(predictor, dataset, examples, progress=progress)
        if answered is None:
            raise DatasetError(
                f"the {split} split has no readable recording",
                where=str(dataset_dir),
                mend="name another split or another folder",
            )
        own = pick_groups(answered, dataset.groups)
        evaluation = judge(predictor, answered, groups=own)
        if explained:
            with temporary_store(predictor, dataset, examples, progress=progress) as (store, _):
                survey = survey_store(
                    predictor, store, num_clips=explained, groups=own, progress=progress
                )
        extra = {"split": split, "num_quarantined": len(bad)}
        if out_dir is None:
            figures = {**evaluation.metrics, **extra}
        else:
            figures = write_evaluation(Path(out_dir), predictor, evaluation, extra=extra)
        if survey is None:
            return figures
        if out_dir is not None:
            write_json(Path(out_dir) / RunFile.EXPLANATIONS, survey)
        return {**figures, "explanations": survey}

    def measure_robustness(
        self,
        dataset_dir: str | Path,
        metadata_csv: str | Path | None = None,
        *,
        split: str = "test",
        test_fold: int | None = None,
        clips: int = 200,
        out_dir: str | Path | None = None,
        progress: Progress = silent,
    ) -> dict[str, Any]:
        """How much of a split is still right under noise, lower rates, clipping and more.

        ``clips`` bounds how many recordings are taken. In ``out_dir``, if given, the record is
        ``robustness.json`` and its picture ``robustness.png``; a run's report shows those in its
        own folder. See ``xmoe.robustness``.
        """
        config = self.predictor.config
        dataset = load_own(config, dataset_dir, metadata_csv, split, test_fold, progress=progress)
        examples, seed = dataset.split(split), config.train.seed
        measured = measure_robustness(
            self.predictor, dataset, examples, clips=clips, seed=seed, progress=progress
        )
        record = {**measured, "split": split}
        if out_dir is not None:
            folder = Path(out_dir)
            write_json(folder / RunFile.ROBUSTNESS, record)
            write_bytes(folder / RunFile.ROBUSTNESS_PICTURE, to_png(draw_robustness(record)))
        return record

    def score(
        self, dataset_dir: str | Path, metadata_csv: str | Path | None = None, **options: Any
    ) -> float:
        """Accuracy on one split, as of scikit-learn's estimators."""
        return float(self.evaluate(dataset_dir, metadata_csv, **options)["accuracy"])

    def print_architecture(self) -> None:
        """Print front end, stem, router and experts with their sizes and costs."""
        path = self.run_dir / RunFile.ARCHITECTURE
        if not path.is_file():
            raise RunFolderError("no such file", where=str(path), mend="finish the run (--resume)")
        print(path.read_text(encoding="utf-8"), end="")  # noqa: T201

    def print_expert_usage(self) -> None:
        """Print how often each expert was asked on the test split, and how many were."""
        usage = read_json(self.run_dir / RunFile.USAGE)
        print(describe_usage(usage), end="")  # noqa: T201


def check_method(name: str) -> str:
    """Pass the name of a method of explanation on; ConfigError where it is unknown."""
    if name not in METHODS:
        mend = f"choose one of {', '.join(METHODS)}"
        raise ConfigError(f"no method {name!r}", where="explainability", mend=mend)
    return name
