#!/usr/bin/env bash
# Builds the images, brings up the whole stack but Grafana, and tries what a container must do.
# Needs a Docker engine with Compose v2; takes down all that it brought up.
# Usage: tests/containers.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export COMPOSE_PROJECT_NAME=convd-test DOCKER_BUILDKIT=1
folder=$(mktemp -d)
chmod 755 "$folder"
trap 'docker compose logs --no-color >"$folder/log" 2>&1; docker compose down --volumes --timeout 5 >/dev/null 2>&1; [[ -n ${passed:-} ]] && rm -rf "$folder" || echo "failed; logs are in $folder/log" >&2' EXIT

step() { printf '\n# %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
server() { docker compose ps --quiet server; }
inspect() { docker inspect --format "$1" "$(server)"; }
inside() { docker compose exec -T server "$@"; }
healthy() { [[ $(inspect '{{.State.Health.Status}}') == healthy ]]; }
wait_for() {  # wait_for SECONDS COMMAND...
  local until=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do ((SECONDS < until)) || fail "waited in vain for: $*"; sleep 0.5; done
}
query() { curl --silent --fail --get --data-urlencode "query=$1" http://127.0.0.1:9090/api/v1/query; }
has_samples() { query "$1" | grep --quiet '"value"'; }

docker info >/dev/null 2>&1 || fail 'no Docker engine answers: start one, or set DOCKER_HOST'
docker compose version >/dev/null 2>&1 || fail 'docker compose (version 2) is missing'

# Offline, an image of another version that is here will do.
prometheus=$(docker compose --profile monitoring config --images 2>/dev/null | grep prom/ || true)
if [[ -n $prometheus ]] && ! docker image inspect "$prometheus" >/dev/null 2>&1 && ! docker pull --quiet "$prometheus" >/dev/null 2>&1; then
  PROMETHEUS_IMAGE=$(docker images --format '{{.Repository}}:{{.Tag}}' prom/prometheus | head -n 1)
  [[ -n $PROMETHEUS_IMAGE ]] || fail "$prometheus is not here and cannot be pulled"
  export PROMETHEUS_IMAGE
  echo "$prometheus cannot be pulled: with $PROMETHEUS_IMAGE"
fi

step 'build'
docker compose build --quiet server
docker build --quiet --target export --tag convd:export .  # for who trains in a container

step 'the serving image is at most 500 MB, and has no torch and no pip'
size=$(docker image inspect --format '{{.Size}}' convd:serve)
echo "$((size / 1000000)) MB"
((size <= 500000000)) || fail "the serving image has $size bytes"
for module in torch pip; do
  docker run --rm --entrypoint python convd:serve -c "import $module" 2>/dev/null && fail "it has $module"
done
docker image inspect --format '{{json .Config.Labels}}' convd:serve | grep --quiet org.opencontainers.image.title || fail 'no OCI labels'

step 'two builds give the same files'
listing='cd /opt/convd && find . -type f -print0 | sort -z | xargs -0 sha256sum'
docker run --rm --entrypoint sh convd:serve -c "$listing" >"$folder/first"
docker build --quiet --no-cache --target serve --tag convd:again . >/dev/null
docker run --rm --entrypoint sh convd:again -c "$listing" >"$folder/second"
docker image rm convd:again >/dev/null
diff "$folder/first" "$folder/second" || fail 'two builds differ'
echo "$(wc -l <"$folder/first") files, all equal"

step 'up, as it is: the demo model, served by an image without torch, and nothing else'
[[ $(docker compose config --services) == server ]] || fail "it would start $(docker compose config --services)"
docker compose up --detach --wait || { docker compose logs; fail 'it did not come up'; }
docker compose down --timeout 5 >/dev/null 2>&1

step 'models of your own, on other ports'
own=$folder/own
mkdir -m 755 "$own" && cp -r deploy/demo/digits "$own/mine"
CONVD_MODELS=$own CONVD_GRPC_PORT=18001 CONVD_HTTP_PORT=18002 docker compose up --detach --wait || { docker compose logs; fail 'it did not come up'; }
served=$(docker run --rm --network host convd:serve models --server 127.0.0.1:18001)
[[ $served == *mine*available* && $served != *digits* ]] || fail "it serves $served"
curl --silent --fail http://127.0.0.1:18002/readyz
CONVD_MODELS=$folder/mistyped docker compose up --detach 2>/dev/null && fail 'a folder that is not there was made'
docker compose down --timeout 5 >/dev/null 2>&1

step 'a quota of one processor is one thread'
quota() { docker run --rm --cpus "$1" --volume "$PWD/deploy/demo:/models:ro" convd:serve doctor --json /models; }
[[ $(quota 1) == *'and a quota of 1"'* ]] || fail "$(quota 1)"
docker run --rm --cpus 1 --entrypoint python convd:serve -c 'from convd.runtime.cores import available_cores as c; assert c() == 1, c()'

step 'upgrade and rollback: another image, and the one before'
docker tag convd:serve convd:before
image() { docker inspect --format '{{.Config.Image}}' "$(server)"; }
docker compose up --detach --wait
CONVD_IMAGE=convd:before docker compose up --detach --wait
[[ $(image) == convd:before ]] || fail "it runs $(image)"
docker compose up --detach --wait
[[ $(image) == convd:serve ]] || fail "it runs $(image)"
docker image rm convd:before >/dev/null

step 'up with what watches it'
export COMPOSE_PROFILES=monitoring
docker compose up --detach --wait server prometheus || { docker compose logs; fail 'the stack did not come up'; }

step 'a digit over the published port, and within the container'
curl --silent --fail http://127.0.0.1:8002/readyz
cp deploy/demo/digits/1/golden/00.png "$folder/digit.png" && chmod 644 "$folder/digit.png"
docker run --rm --network host --volume "$folder:/in:ro" convd:serve classify /in/digit.png --model digits --top-k 3
answer=$(docker run --rm --network host --volume "$folder:/in:ro" convd:serve classify /in/digit.png --model digits --json)
[[ $answer == *'"model"'*'"probability"'* ]] || fail "no probabilities: $answer"

step 'Prometheus sees it'
wait_for 60 has_samples 'up{job="convd"} == 1'
wait_for 60 has_samples 'convd_requests_total{model="digits", code="OK"} > 0'
wait_for 60 has_samples 'convd_version_state{model="digits", state="available"} == 1'
[[ $(curl --silent http://127.0.0.1:9090/api/v1/rules | grep --only-matching '"name":"Convd[A-Za-z]*"' | sort --unique | wc -l) -ge 8 ]] || fail 'the alerts are not loaded'

step 'a page that rebinds its name gets nothing'
for path in / /metrics /api/models; do
  code=$(curl --silent --output /dev/null --write-out '%{http_code}' --header 'Host: rebound.example:8002' "http://127.0.0.1:8002$path")
  [[ $code == 403 ]] || fail "$path answers $code to another name"
done

step 'Prometheus has no rights either'
watcher=$(docker compose ps --quiet prometheus)
[[ $(docker inspect --format '{{.HostConfig.CapDrop}} {{.HostConfig.ReadonlyRootfs}}' "$watcher") == '[ALL] true' ]] || fail 'Prometheus has capabilities, or writes where it should not'

step 'no rights: user, read-only root, no capabilities, memory limit'
[[ $(inside id -u) == 10001 ]] || fail "it runs as $(inside id -u)"
inside touch /opt/convd/x 2>/dev/null && fail 'the root is writable'
inside touch /models/x 2>/dev/null && fail 'the models are writable'
inside grep --quiet '^CapEff:.*0000000000000000$' /proc/1/status || fail 'it has capabilities'
inside grep --quiet '^CapBnd:.*0000000000000000$' /proc/1/status || fail 'it can get capabilities'
inside grep --quiet '^NoNewPrivs:.*1$' /proc/1/status || fail 'it can get privileges'
[[ $(inspect '{{.HostConfig.Memory}}') == 2147483648 ]] || fail 'there is no memory limit'
healthy || fail 'the health check does not pass'

step 'kill -9: the engine starts it again'
before=$(inspect '{{.State.StartedAt}}')
restarted() { [[ $(inspect '{{.State.StartedAt}}') != "$before" ]] && healthy; }
# From outside its namespace, as the kernel would do it; "docker kill" would count as a stop.
docker run --rm --pid host --user 0 --entrypoint sh convd:serve -c "kill -9 $(inspect '{{.State.Pid}}')"
wait_for 120 restarted
docker run --rm --network host --volume "$folder:/in:ro" convd:serve classify /in/digit.png --model digits --json >/dev/null
echo "restarted $(inspect '{{.RestartCount}}') time(s), and answers"

step 'SIGTERM: it drains and exits with 0'
started=$SECONDS
docker compose stop server >/dev/null 2>&1
[[ $(docker inspect --format '{{.State.ExitCode}}' "$(docker compose ps --all --quiet server)") == 0 ]] || fail 'the exit code is not 0'
((SECONDS - started < 30)) || fail 'it took longer than the drain'
docker compose logs --no-color server | grep 'stopped after' | tail -n 1
echo "stopped in $((SECONDS - started)) s"

step 'TLS and tokens from mounted files, with no more rights than before'
access=$folder/access
mkdir "$access"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2 -subj /CN=authority \
  -keyout "$folder/ca.key" -out "$access/ca.crt" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -subj /CN=server \
  -keyout "$access/server.key" -out "$folder/server.csr" 2>/dev/null
openssl x509 -req -in "$folder/server.csr" -CA "$access/ca.crt" -CAkey "$folder/ca.key" -days 2 -out "$access/server.crt" \
  -extfile <(echo 'subjectAltName=DNS:server,DNS:localhost,IP:127.0.0.1') 2>/dev/null
token() { docker run --rm --user "$(id -u)" --volume "$access:/access" convd:serve token create "$@" --principals /access/principals.json 2>/dev/null; }
token prometheus --scope metrics:read >"$access/prometheus.token"
token camera --scope infer:digits >"$folder/camera.token"
chmod 644 "$access"/* "$folder"/camera.token && chmod 755 "$access"
export ACCESS_FOLDER=$access COMPOSE_FILE=docker-compose.yml:docker-compose.secure.yml
docker compose up --detach --wait server prometheus || { docker compose logs; fail 'the stack did not come up with TLS'; }
healthy || fail 'the health check does not pass with TLS'
classify() { docker run --rm --network host --volume "$folder:/in:ro" convd:serve classify /in/digit.png --model digits --json "$@"; }
classify --tls-ca /in/access/ca.crt --token-file /in/camera.token >/dev/null || fail 'no answer with TLS and a token'
classify --tls-ca /in/access/ca.crt >/dev/null 2>&1 && fail 'an answer without a token'
classify --token-file /in/camera.token >/dev/null 2>&1 && fail 'an answer without TLS'
status() { curl --silent --output /dev/null --write-out '%{http_code}' --cacert "$access/ca.crt" "$@"; }
[[ $(status https://localhost:8002/livez) == 200 ]] || fail 'the probe does not answer over HTTPS'
[[ $(status https://localhost:8002/metrics) == 401 ]] || fail 'metrics without a token'
wait_for 60 has_samples 'up{job="convd"} == 1'
wait_for 60 has_samples 'convd_principal_requests_total{principal="camera", code="OK"} > 0'
[[ $(inside id -u) == 10001 ]] || fail "it runs as $(inside id -u)"
inside touch /access/x 2>/dev/null && fail 'its certificates are writable'
inside grep --quiet '^CapEff:.*0000000000000000$' /proc/1/status || fail 'it has capabilities'
docker run --rm --volume convd-test_models:/models:ro convd:serve serve >"$folder/refused" 2>&1 && fail 'it serves everybody without being told to'
grep --quiet 'insecure' "$folder/refused" || fail "no reason: $(<"$folder/refused")"
passed=yes
printf '\nthe containers do what they should\n'
