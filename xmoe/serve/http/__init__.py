"""Routes and bodies.

api            all routes as one ASGI application
v1, v2         ``/v1``; the Open Inference Protocol
stream         ``WS /v1/stream``; ``framing`` reads its PCM
bodies         a request's body within size and time
tensors        tensors of ``/v2``
service        what the routes call; no HTTP and no Ray in it
timeline       segments of a long recording -> windows and events
explainer      why a recording was answered so
corrections    what users say of answers -> a table beside the run
"""
