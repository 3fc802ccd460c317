"""The version of xmoe, as a user sees it and as records carry it."""

VERSION = "0.2.0"
