#!/bin/sh
# install.sh DESTDIR: installs what `npm run build` made below DESTDIR, as a package would ("/" or "" for this system).
#
#   usr/lib/ocictl/            the programs, koffi with the binary of this architecture
#   usr/bin/NAME               links to the programs
#   usr/share/man/man*/        manual pages, when they were built
#   usr/share/{bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}
#   usr/share/doc/ocictl/      licences: ours, and those of the modules in the programs; what people who know podman look for
#   usr/lib/tmpfiles.d/        the directory that the programs keep their compiled code in
#   usr/lib/systemd/           the units of units/, and the preset that leaves the timers to the user
#
# ZSH_DIRECTORY: where zsh looks for completions below /usr/share/zsh; Debian's has vendor-completions.
# Installing twice leaves the same as installing once.
set -eu
umask 022

destdir=${1?usage: install.sh DESTDIR}
destdir=${destdir%/}
project=$(cd "$(dirname "$0")/.." && pwd)
library=$destdir/usr/lib/ocictl

if [ ! -e "$project/dist" ]; then
  echo "install.sh: there is no dist/: run 'npm run build' first" >&2
  exit 1
fi
case $(uname -m) in
  x86_64) koffi=koffi-linux-x64 ;;
  aarch64) koffi=koffi-linux-arm64 ;;
  *)
    echo "install.sh: no koffi binary for $(uname -m)" >&2
    exit 1
    ;;
esac

rm -rf "$library"
install -d "$library" "$destdir/usr/bin"
install -m 644 "$project"/dist/*.cjs "$library"

# Of koffi, what runs: its JavaScript (not its C++), and the binary for this architecture and libc.
(cd "$project/node_modules" && find koffi \( -path koffi/doc -o -path koffi/vendor -o -name 'cnoke.*' -o -name 'trampolines.*' \) -prune -o \
  \( -name '*.js' -o -name '*.cjs' -o -name package.json -o -name LICENSE.txt \) -print) |
  while read -r file; do install -D -m 644 "$project/node_modules/$file" "$library/node_modules/$file"; done
(cd "$project/node_modules" && find "@koromix/$koffi" -name 'musl_*' -prune -o -type f ! -name '*.md' -print) |
  while read -r file; do install -D -m 644 "$project/node_modules/$file" "$library/node_modules/$file"; done

for program in oci-pull oci-run ocictl; do
  chmod 755 "$library/$program.cjs"
  ln -sf "../lib/ocictl/$program.cjs" "$destdir/usr/bin/$program"
done

for page in "$project"/dist/man/*.[1-8]; do
  [ -e "$page" ] || continue
  install -D -m 644 "$page" "$destdir/usr/share/man/man${page##*.}/$(basename "$page")"
done
for program in oci-pull oci-run ocictl; do
  install -D -m 644 "$project/dist/completions/bash/$program" "$destdir/usr/share/bash-completion/completions/$program"
  install -D -m 644 "$project/dist/completions/zsh/_$program" "$destdir/usr/share/zsh/${ZSH_DIRECTORY:-site-functions}/_$program"
  install -D -m 644 "$project/dist/completions/fish/$program.fish" "$destdir/usr/share/fish/vendor_completions.d/$program.fish"
done
install -D -m 644 "$project/packaging/tmpfiles.d/ocictl.conf" "$destdir/usr/lib/tmpfiles.d/ocictl.conf"
for unit in "$project"/units/*.service "$project"/units/*.timer "$project"/units/*.slice; do
  install -D -m 644 "$unit" "$destdir/usr/lib/systemd/system/$(basename "$unit")"
done
for preset in "$project"/units/*.preset; do
  install -D -m 644 "$preset" "$destdir/usr/lib/systemd/system-preset/$(basename "$preset")"
done
install -D -m 644 "$project/docs/from-podman.md" "$destdir/usr/share/doc/ocictl/from-podman.md"
install -D -m 644 "$project/LICENSE" "$destdir/usr/share/doc/ocictl/LICENSE"
for module in commander ini koffi smol-toml undici; do
  license=$(ls "$project/node_modules/$module"/LICENSE*)
  install -m 644 "$license" "$destdir/usr/share/doc/ocictl/LICENSE.$module"
done
