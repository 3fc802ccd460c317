"""All of it on Ray Serve. Only ``build`` binds deployments.

build            settings -> a Serve application; the ``import_path`` of deployments/*.yaml
router_replica   what Ray Serve runs as the router
session          an application for as long as ``xmoe serve`` runs
stage            where ``xmoe deploy`` puts versions
cluster          a Ray of its own, or one where others have applications
haproxy          HAProxy as the ingress
quiet            Ray's own output -> a file
"""
