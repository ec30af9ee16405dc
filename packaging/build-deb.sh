#!/bin/sh
# build-deb.sh DIRECTORY: makes ocictl_VERSION_ARCH.deb there, of what `npm run build` made. Needs dpkg-deb. The same
# dist/ and SOURCE_DATE_EPOCH give the same bytes.
set -eu
. "$(dirname "$0")/package-facts.sh"
target=$(cd "${1?usage: build-deb.sh DIRECTORY}" && pwd)
architecture=$(dpkg --print-architecture)
tree=$work/tree
doc=$tree/usr/share/doc/ocictl

ZSH_DIRECTORY=vendor-completions "$project/packaging/install.sh" "$tree"

# Debian has licences in one file, and pages and change logs compressed.
{
  cat "$project/packaging/debian/copyright"
  for license in "$doc"/LICENSE.*; do
    printf '\nThe licence of %s, which is a part of the programs:\n\n' "${license##*LICENSE.}"
    cat "$license"
  done
} >"$doc/copyright"
rm "$doc"/LICENSE*
printf 'ocictl (%s-1) unstable; urgency=medium\n\n  * See CHANGELOG.md of the source.\n\n -- %s  %s\n' "$version" \
  'ocictl packages <packages@ocictl.invalid>' "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.Debian.gz"
find "$tree/usr/share/man" -type f -exec gzip -9n {} +
install -D -m 644 "$project/packaging/debian/lintian-overrides" "$tree/usr/share/lintian/overrides/ocictl"

install -d "$tree/DEBIAN"
for script in postinst prerm postrm; do
  install -m 755 "$project/packaging/debian/$script" "$tree/DEBIAN/$script"
done
sed -e "s/@VERSION@/$version-1/; s/@ARCHITECTURE@/$architecture/; s/@SUMMARY@/$summary/" \
  -e "s/@SIZE@/$(du -k --apparent-size -s "$tree/usr" | cut -f1)/" "$project/packaging/debian/control" >"$tree/DEBIAN/control"
(cd "$tree" && find usr -type f | sort | xargs md5sum) >"$tree/DEBIAN/md5sums"

find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --build --root-owner-group -Zxz --threads-max=1 "$tree" "$target/ocictl_${version}-1_$architecture.deb" >&2
echo "$target/ocictl_${version}-1_$architecture.deb"
