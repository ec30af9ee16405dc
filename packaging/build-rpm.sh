#!/bin/sh
# build-rpm.sh DIRECTORY: makes ocictl-VERSION-1.ARCH.rpm there, of what `npm run build` made. Needs rpmbuild. The same
# dist/ and SOURCE_DATE_EPOCH give the same bytes.
set -eu
. "$(dirname "$0")/package-facts.sh"
target=$(cd "${1?usage: build-rpm.sh DIRECTORY}" && pwd)

rpmbuild -bb --quiet --nodeps \
  --define "_topdir $work" --define "_rpmdir $work/rpms" --define "_build_id_links none" \
  --define "_buildhost localhost" --define "use_source_date_epoch_as_buildtime 1" \
  --define "clamp_mtime_to_source_date_epoch 1" --define "_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm" \
  --define "project $project" --define "package_version $version" --define "package_summary $summary" \
  "$project/packaging/ocictl.spec" >&2
cp "$work"/rpms/*.rpm "$target"
ls "$target"/ocictl-"$version"-1.*.rpm
