#!/bin/sh
# Ask a server over HTTP with curl: curl.sh PICTURE [MODEL [ADDRESS]]
set -eu
picture=$1
model=${2:-digits}
server=http://${3:-localhost:8002}

# A picture, classified: the three most probable classes.
curl --fail-with-body --silent --show-error \
  --data-binary "@$picture" "$server/v1/classify/$model?top_k=3"
echo

# Several pictures in one request; a bad one gets its own error.
curl --fail-with-body --silent --show-error \
  --form "image=@$picture" --form "image=@$picture" "$server/v1/classify/$model?top_k=1"
echo

# A deadline of two seconds, and an id that the server's log and the answer carry.
curl --fail-with-body --silent --show-error --dump-header - --output /dev/null \
  --header 'X-Request-Timeout: 2' --header 'X-Request-Id: curl-1' \
  --data-binary "@$picture" "$server/v1/classify/$model"

# The Open Inference Protocol: what there is, and what a model takes.
curl --fail-with-body --silent --show-error "$server/v2/models/$model"
echo
curl --fail-with-body --silent --show-error --request POST "$server/v2/repository/index"
echo
