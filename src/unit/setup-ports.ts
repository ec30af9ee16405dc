/**
 * Shell that reserves published ports of the host, and chooses those that were not named.
 *
 * Invariant: what somebody listens on, or another container has published, is refused: netavark would silently take
 * the connections away from it. The caller holds the network's lock.
 */
import type { PublishedPort } from '../oci/address.ts';

/** Ports that nobody is assigned and that, mostly, no program of the host takes by itself (RFC 6335, 6). */
const CHOICE = { first: 49152, last: 65535 };

/** The variable that holds the first host port of the `index`th published range, after the lines of portLines(). */
export function portVariable(index: number): string {
  return `PORT${index}`;
}

/** `directory`: a file of each container there says `PROTOCOL FIRST LAST ADDRESS|- UNIT` of each range. */
export function portLines(ports: readonly PublishedPort[], directory: string): string {
  if (ports.length === 0) return '';
  const calls = ports.map(({ protocol, hostPort, count, hostAddress = '-' }, index) =>
    hostPort === undefined
      ? `choose ${protocol} ${count} ${hostAddress}\n${portVariable(index)}=$port`
      : `publish ${protocol} ${hostPort} ${hostPort + count - 1} ${hostAddress}`,
  );
  return `
# ADDRESS|- ADDRESS|-: whether a connection could be for both
meet() {
  case $1,$2 in
    -,* | *,- | "$2,$1") return 0 ;;
    0.0.0.0,*:* | *:*,0.0.0.0) return 1 ;;
    0.0.0.0,* | *,0.0.0.0 | ::,*:* | *:*,::) return 0 ;;
  esac
  return 1
}
# PROTOCOL FIRST LAST ADDRESS: says who has one of them
taken() {
  ${'ss --no-header --listening --numeric --$1 "( sport >= :$2 and sport <= :$3 )"'} | while read -r _ _ _ address _; do
    address=\${address%:*}
    address=\${address%%%*}
    address=\${address#[}
    address=\${address%]}
    [ "$address" != '*' ] || address=-
    if meet "$4" "$address"; then echo 'in use on the host: see ss -lnp'; fi
  done
  cat ${directory}/* 2>/dev/null | while read -r protocol first last address unit; do
    if [ $protocol = $1 ] && [ $first -le $3 ] && [ $last -ge $2 ] && meet "$4" "$address"; then
      echo "published by $unit already"
    fi
  done
}
reserve() { echo "$1 $2 $3 $4 $NAME" >>"${directory}/$NAME"; }
publish() {
  why=$(taken "$@" | head -n 1)
  label="port $2/$1"
  [ $2 = $3 ] || label="one of the ports $2-$3/$1"
  [ -z "$why" ] || fail "$label is $why"
  reserve "$@"
}
# PROTOCOL COUNT ADDRESS: \`port\` is the first of them
choose() {
  tries=0
  while :; do
    tries=$((tries + 1))
    [ $tries -le 100 ] || fail "found no $2 free ports to publish"
    port=$(shuf -n 1 -i ${CHOICE.first}-$((${CHOICE.last} + 1 - $2)))
    [ -n "$(taken $1 $port $((port + $2 - 1)) $3)" ] || break
  done
  reserve $1 $port $((port + $2 - 1)) $3
}
${calls.join('\n')}`;
}
