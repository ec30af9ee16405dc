/** The programs of the benchmark: how each pulls an image, down to files that a container can have, and forgets it. */

export interface Peer {
  readonly name: string;
  /** Prints its version first thing. */
  readonly version: string;
  /** Pulls the image `$1`, by a shell. */
  readonly pull: string;
  /** Back to an empty store. */
  readonly clean: string;
  /** Refuses or repeats everything when the image is there. */
  readonly once?: boolean;
  /** Services of which a part of the work is done. */
  readonly services?: readonly string[];
}

/** Where all of them keep their images: a tmpfs, so that no disk takes part. */
export const STORE = '/var/lib/bench';

const PODMAN = `podman --root ${STORE}/podman --runroot /run/bench-podman`;

export const PEERS: readonly Peer[] = [
  {
    name: 'oci-pull',
    version: 'oci-pull --version',
    pull: `oci-pull --root ${STORE}/oci "$1"`,
    clean: `rm -rf ${STORE}/oci`,
  },
  {
    name: 'importctl',
    version: 'importctl --version',
    pull: 'importctl --quiet --class=machine pull-oci "$1" bench',
    // It marks what it unpacked as immutable.
    clean: `cd ${STORE}/machines; chattr -f -i -- .oci-* || true; find . -mindepth 1 -delete`,
    once: true,
    services: ['systemd-importd.service'],
  },
  {
    name: 'ctr',
    version: 'ctr --version',
    pull: 'ctr images pull "$1" >/dev/null',
    clean: 'ctr images ls -q | xargs -r ctr images rm --sync; ctr content prune references >/dev/null',
    services: ['containerd.service'],
  },
  {
    name: 'skopeo + umoci',
    version: 'umoci --version',
    pull: `skopeo copy --quiet "docker://$1" oci:${STORE}/umoci/layout:image &&
      umoci unpack --image ${STORE}/umoci/layout:image ${STORE}/umoci/bundle`,
    clean: `rm -rf ${STORE}/umoci; mkdir ${STORE}/umoci`,
    once: true,
  },
  {
    name: 'podman',
    version: 'podman --version',
    pull: `${PODMAN} pull --quiet "$1"`,
    clean: `${PODMAN} rmi --all --force; rm -rf ${STORE}/podman`,
  },
];
