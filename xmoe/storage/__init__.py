"""Files on this machine or in an object store, with one way to reach both."""
