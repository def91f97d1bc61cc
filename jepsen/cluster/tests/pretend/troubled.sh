#!/bin/sh
# Node 1 panics and ends soon after it was ready; node 2 writes an error.
case "$1 $8" in
"start 1")
    echo '{"node_id": 1}'
    sleep 4
    echo "thread 'main' panicked at src/main.rs:1:1:" >&2
    exit 3
    ;;
"start 2")
    echo '{"node_id": 2}'
    echo "2026-11-23T10:29:23.342313Z ERROR broker: it burns" >&2
    exec sleep 600
    ;;
*)
    echo '{"nodes": [{"id": 1, "alive": true, "state": "active"},
                     {"id": 2, "alive": true, "state": "active"}],
           "shards": [],
           "verdict": {"health": "healthy", "can_lose": 0, "sentence": "Healthy."}}'
    ;;
esac
