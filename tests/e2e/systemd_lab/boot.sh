#!/bin/bash
# Process 1 of fresh namespaces (mount, pid, cgroup, ipc, uts, net): makes a small machine and becomes systemd.
# Given: LAB, a folder with results/; PREFIX, a virtual environment; BASE, its Python; SOURCE, the checkout. Nothing outside changes.
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
# Shared memory of its own: with RemoveIPC=, a service's end removes what its user id has there, also another machine's.
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -p /run/lab/units /run/lab/etc
cp -a /etc/passwd /etc/group /etc/shadow /etc/gshadow /etc/nsswitch.conf /etc/ld.so.cache /etc/alternatives /run/lab/etc
mkdir -p /run/lab/etc/systemd/system/service.d /run/lab/results
mount --bind "$LAB/results" /run/lab/results
mkdir -p /run/lab/{venv,source,base}
mount --bind -o ro "$PREFIX" /run/lab/venv
mount --bind -o ro "$SOURCE" /run/lab/source
mount --bind -o ro "$BASE" /run/lab/base
mount --bind /run/lab/etc /etc
mount -t tmpfs -o mode=755 tmpfs /opt
# A virtual environment as `python -m venv /opt/ironclad` and pip would make it, of the packages that are here.
mkdir -p /opt/ironclad/{bin,venv,source,base}
mount --move /run/lab/venv /opt/ironclad/venv
mount --move /run/lab/source /opt/ironclad/source
mount --move /run/lab/base /opt/ironclad/base
version=$(ls /opt/ironclad/venv/lib)
packages=/opt/ironclad/lib/$version/site-packages
mkdir -p $packages
printf '%s\n' /opt/ironclad/source{,/flows,/tui} /opt/ironclad/venv/lib/$version/site-packages > $packages/lab.pth
printf 'home = /opt/ironclad/base/bin\ninclude-system-site-packages = false\n' > /opt/ironclad/pyvenv.cfg
ln -s /opt/ironclad/base/bin/$version /opt/ironclad/bin/python
printf '#!/opt/ironclad/bin/python\nfrom ironclad.cli.main import main\nmain()\n' > /opt/ironclad/bin/ironclad
chmod 755 /opt/ironclad/bin/ironclad
mount -t tmpfs -o mode=755 tmpfs /var/lib
umount -R /sys/fs/cgroup || true
mount -t cgroup2 none /sys/fs/cgroup
for name in sysinit basic multi-user network-online shutdown umount local-fs; do
    printf '[Unit]\nDefaultDependencies=no\n' > /run/lab/units/$name.target
done
# Output goes to files, since there is no journal: an operator's drop-in for every service, as it happens.
printf '[Service]\nStandardOutput=append:/run/lab/results/%%p-%%i.log\nStandardError=append:/run/lab/results/%%p-%%i.log\nRestartSec=1s\nEnvironment=LD_LIBRARY_PATH=/opt/ironclad/base/lib\n' \
    > /etc/systemd/system/service.d/90-lab.conf
printf '[Unit]\nDefaultDependencies=no\nRequires=drive.service\n' > /run/lab/units/lab.target
printf '[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/bash %s\n' \
    /opt/ironclad/source/tests/e2e/systemd_lab/drive.sh > /run/lab/units/drive.service
# A peer group of its own, as on a real machine: credentials reach services by mount propagation.
mount --make-rshared /
exec env -i PATH="$PATH" container=lab SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/lab/units \
    /lib/systemd/systemd --system --unit=lab.target --log-target=console --show-status=no
