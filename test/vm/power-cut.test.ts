/** The power is cut as soon as a pull has returned: the image is there, whole, after the next boot. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Disk, makeDisk, startVirtualMachine } from '../machine/virtual-machine.ts';

const BOOT_MAX_MS = 600_000; // emulated
const LEFT_OVER_MAX_KIB = 64 * 1024;
const IMAGE = '127.0.0.1:5000/nginx';

const REGISTRY = `docker-registry serve /etc/docker/registry/config.yml >/var/log/registry.log 2>&1 &
for i in $(seq 600); do curl -fs -o /dev/null http://127.0.0.1:5000/v2/ && break; sleep 0.1; done`;

/** One line for every file of a mounted image: what it is and what is in it. */
const LISTING = `list() {
  cd "$(ocictl --root $1 mount ${IMAGE})"
  { find . -printf '%p %y %m %U:%G %n %l %Ts\\n'; find . -type f -exec sha256sum {} +; } | sort | sha256sum
  cd /
}`;

const SCRIPTS = {
  pull: `${REGISTRY}
oci-pull ${IMAGE} 2>/dev/null
echo VM-PULLED
sleep infinity`,
  look: `${REGISTRY}
${LISTING}
echo "VM-IMAGES $(ocictl --json images | jq -r '.[].names[]')"
echo "VM-STAGING $(du -s -k /var/lib/oci/staging | cut -f1)"
oci-pull --quiet --root /var/tmp/fresh ${IMAGE} >/dev/null
a=$(list /var/lib/oci)
b=$(list /var/tmp/fresh)
[ "$a" = "$b" ] && echo "VM-SAME $a"
oci-pull ${IMAGE} 2>&1 | head -1
echo VM-LOOKED`,
};

let disk: Disk;
before(async () => {
  disk = await makeDisk({ scripts: SCRIPTS, registry: true });
});
after(() => disk.remove());

test('an image survives a power cut right after its pull', async () => {
  const first = startVirtualMachine(disk, '/pull');
  const pulled = await first.waitFor('VM-PULLED', BOOT_MAX_MS);
  await first.cut();
  assert.match(pulled, /^sha256:[0-9a-f]{64}$/m);

  const second = startVirtualMachine(disk, '/look');
  try {
    const looked = await second.waitFor('VM-LOOKED', BOOT_MAX_MS);
    assert.match(looked, /^VM-IMAGES 127\.0\.0\.1:5000\/nginx:latest$/m, looked);
    assert.ok(Number(/^VM-STAGING (\d+)$/m.exec(looked)?.[1]) <= LEFT_OVER_MAX_KIB, looked);
    assert.match(looked, /^VM-SAME [0-9a-f]{64} {2}-$/m, looked);
    assert.match(looked, /is up to date$/m, looked);
    assert.doesNotMatch(looked, /VM-FAILED/);
  } finally {
    await second.cut();
  }
});
