#!/bin/sh
# Says that it is ready, that the cluster is whole, and what it was started with.
case "$1" in
start)
    echo "arguments $*" >&2
    echo "environment $PRETEND" >&2
    echo '{"node_id": 1}'
    exec sleep 600
    ;;
cluster)
    echo '{"nodes": [{"id": 1, "alive": true, "state": "active"},
                     {"id": 2, "alive": true, "state": "active"}],
           "shards": [],
           "verdict": {"health": "healthy", "can_lose": 0, "sentence": "Healthy."}}'
    ;;
esac
