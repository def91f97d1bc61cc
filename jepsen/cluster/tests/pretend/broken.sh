#!/bin/sh
# Never is a node.
echo "no such thing" >&2
exit 2
