#!/bin/sh
# A model that `lorikeet serve` has, by curl:
#   ./lorikeet serve --model builtin
#   sh examples/serving/curl.sh http://127.0.0.1:8080
# A key for the server comes in KEY.
set -eu
url=${1:-http://127.0.0.1:8080}
model=${2:-builtin}

ask() {
  path=$1
  shift
  curl --silent --show-error --fail-with-body --no-buffer "$url$path" \
    -H "Authorization: Bearer ${KEY:-none}" -H "Content-Type: application/json" "$@"
  echo
}

echo "What is served:"
ask /v1/models

echo "An answer:"
ask /v1/chat/completions -d '{
  "model": "'"$model"'", "max_tokens": 16, "temperature": 0,
  "messages": [{"role": "user", "content": "What does a gull eat?"}]}'

echo "A stream of one:"
ask /v1/chat/completions -d '{
  "model": "'"$model"'", "max_tokens": 16, "stream": true, "stream_options": {"include_usage": true},
  "messages": [{"role": "user", "content": "What does a gull eat?"}]}'

echo "An answer by a schema:"
ask /v1/chat/completions -d '{
  "model": "'"$model"'", "max_tokens": 60,
  "messages": [{"role": "user", "content": "Which bird?"}],
  "response_format": {"type": "json_schema", "json_schema": {"name": "bird", "schema": {
    "type": "object", "required": ["bird"],
    "properties": {"bird": {"enum": ["gull", "falcon", "parakeet"]}}}}}}'

echo "How a text goes on, and how likely each token was:"
ask /v1/completions -d '{
  "model": "'"$model"'", "prompt": "The home of", "max_tokens": 4, "temperature": 0, "logprobs": 2}'

echo "Its tokens:"
ask /tokenize -d '{"prompt": "The home of"}'
