"""xmoe: recordings -> profile -> policy -> a mixture of experts that explanations route -> answers.

The public names load on first use, so that ``import xmoe`` and ``xmoe --help`` cost nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from xmoe.base.version import VERSION

if TYPE_CHECKING:
    from xmoe.audio.dataset import load_dataset as load_dataset
    from xmoe.base.errors import AudioError as AudioError
    from xmoe.base.errors import ConfigError as ConfigError
    from xmoe.base.errors import DatasetError as DatasetError
    from xmoe.base.errors import InputError as InputError
    from xmoe.base.errors import RunFolderError as RunFolderError
    from xmoe.base.errors import StorageError as StorageError
    from xmoe.base.errors import XmoeError as XmoeError
    from xmoe.pipeline.classifier import MoEAudioClassifier as MoEAudioClassifier
    from xmoe.profile.assemble import profile_dataset as profile_dataset
    from xmoe.serve.client import Client as Client

__version__ = VERSION

_HOMES = {
    "AudioError": "xmoe.base.errors",
    "Client": "xmoe.serve.client",
    "ConfigError": "xmoe.base.errors",
    "DatasetError": "xmoe.base.errors",
    "InputError": "xmoe.base.errors",
    "MoEAudioClassifier": "xmoe.pipeline.classifier",
    "RunFolderError": "xmoe.base.errors",
    "StorageError": "xmoe.base.errors",
    "XmoeError": "xmoe.base.errors",
    "load_dataset": "xmoe.audio.dataset",
    "profile_dataset": "xmoe.profile.assemble",
}

__all__ = [
    "AudioError",
    "Client",
    "ConfigError",
    "DatasetError",
    "InputError",
    "MoEAudioClassifier",
    "RunFolderError",
    "StorageError",
    "XmoeError",
    "__version__",
    "load_dataset",
    "profile_dataset",
]


def __getattr__(name: str) -> object:
    """Import a public name from its home when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'xmoe' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
