# Sourced by build-deb.sh and build-rpm.sh: what both packages say, and a date that does not depend on when they are
# built: SOURCE_DATE_EPOCH, or else that of the last commit.
project=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n 's/^  "version": "\(.*\)",$/\1/p' "$project/package.json")
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
  SOURCE_DATE_EPOCH=$(git -C "$project" log -1 --format=%ct)
fi
export SOURCE_DATE_EPOCH
export TZ=UTC LC_ALL=C
umask 022
summary='OCI containers as ordinary systemd services'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
