#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# For the image of a virtual machine: the module that inserts a GPU, and an archive in /srv/debian with packages that have
# the names of Debian's driver. They are stand-ins, but DKMS builds their kernel modules.
set -eu
here=$(dirname "$0")
version=550.163.01
kernel=$(ls /lib/modules)
archive=/srv/debian
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

# `modprobe fake_gpu` inserts the GPU.
mkdir "$build/gpu"
cp "$here/fake_gpu.c" "$build/gpu"
echo 'obj-m := fake_gpu.o' >"$build/gpu/Makefile"
make --silent -C "/lib/modules/$kernel/build" M="$build/gpu" modules
mkdir -p "/lib/modules/$kernel/extra"
cp "$build/gpu/fake_gpu.ko" "/lib/modules/$kernel/extra"
depmod "$kernel"

package() { # NAME DEPENDS: packs the directory of that name
  mkdir -p "$build/$1/DEBIAN"
  printf 'Package: %s\nVersion: %s-1\nArchitecture: amd64\nMaintainer: lab <lab@invalid>\nDepends: %s\nDescription: stand-in\n' \
    "$1" "$version" "$2" | sed '/^Depends: $/d' >"$build/$1/DEBIAN/control"
  file=pool/$1.deb
  dpkg-deb --build -Znone --root-owner-group "$build/$1" "$archive/$file" >/dev/null
  {
    dpkg-deb --field "$archive/$file"
    echo "Filename: $file"
    echo "Size: $(stat --format %s "$archive/$file")"
    echo "SHA256: $(sha256sum "$archive/$file" | cut -d ' ' -f 1)"
    echo
  } >>"$packages"
}

packages=$archive/dists/trixie/main/binary-amd64/Packages
rm -rf "$archive"
mkdir -p "$archive/pool"
for component in main contrib non-free non-free-firmware; do
  mkdir -p "$archive/dists/trixie/$component/binary-amd64"
  : >"$archive/dists/trixie/$component/binary-amd64/Packages"
done

source=$build/nvidia-kernel-dkms/usr/src/nvidia-current-$version
mkdir -p "$source" "$build/nvidia-kernel-dkms/etc/modprobe.d" "$build/nvidia-kernel-dkms/DEBIAN"
cp "$here/nvidia.c" "$here/nvidia-uvm.c" "$source"
cat >"$source/Makefile" <<END
obj-m := nvidia.o nvidia-uvm.o
ccflags-y := -DVERSION='"$version"'
END
cat >"$source/dkms.conf" <<END
PACKAGE_NAME=nvidia-current
PACKAGE_VERSION=$version
MAKE[0]="make -C \$kernel_source_dir M=\$dkms_tree/\$module/\$module_version/build modules"
BUILT_MODULE_NAME[0]=nvidia
DEST_MODULE_NAME[0]=nvidia-current
DEST_MODULE_LOCATION[0]=/updates/dkms
BUILT_MODULE_NAME[1]=nvidia-uvm
DEST_MODULE_NAME[1]=nvidia-current-uvm
DEST_MODULE_LOCATION[1]=/updates/dkms
AUTOINSTALL=yes
END
cat >"$build/nvidia-kernel-dkms/etc/modprobe.d/nvidia.conf" <<END
blacklist nouveau
alias nvidia nvidia-current
alias nvidia-uvm nvidia-current-uvm
END
cat >"$build/nvidia-kernel-dkms/DEBIAN/postinst" <<END
#!/bin/sh
exec /usr/lib/dkms/common.postinst nvidia-current $version
END
chmod 0755 "$build/nvidia-kernel-dkms/DEBIAN/postinst"
package nvidia-kernel-dkms dkms

mkdir -p "$build/libcuda1/usr/lib/x86_64-linux-gnu"
echo stand-in >"$build/libcuda1/usr/lib/x86_64-linux-gnu/libcuda.so.$version"
ln -s "libcuda.so.$version" "$build/libcuda1/usr/lib/x86_64-linux-gnu/libcuda.so.1"
package libcuda1 ''

mkdir -p "$build/nvidia-smi/usr/bin"
cat >"$build/nvidia-smi/usr/bin/nvidia-smi" <<END
#!/bin/sh
case "\$*" in
*--query-gpu=*) echo "0, GPU-0, NVIDIA GeForce RTX 4090, 00000001:C0:00.0, $version, 24564, 8.9" ;;
*--query-compute-apps=*) echo "\$(systemctl show --property MainPID --value ollama.service), 512" ;;
esac
END
chmod 0755 "$build/nvidia-smi/usr/bin/nvidia-smi"
package nvidia-smi ''

mkdir -p "$build/nvidia-modprobe/usr/bin"
cat >"$build/nvidia-modprobe/usr/bin/nvidia-modprobe" <<END
#!/bin/sh
modprobe nvidia-uvm || exit
[ -e /dev/nvidiactl ] || mknod -m 0666 /dev/nvidiactl c 195 255
[ -e /dev/nvidia0 ] || mknod -m 0666 /dev/nvidia0 c 195 0
[ -e /dev/nvidia-uvm ] || mknod -m 0666 /dev/nvidia-uvm c 235 0
END
chmod 0755 "$build/nvidia-modprobe/usr/bin/nvidia-modprobe"
package nvidia-modprobe ''

unit=$build/nvidia-persistenced/usr/lib/systemd/system
mkdir -p "$unit"
cat >"$unit/nvidia-persistenced.service" <<END
[Unit]
Description=Stands in for NVIDIA's daemon
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/nvidia-modprobe
[Install]
WantedBy=multi-user.target
END
package nvidia-persistenced nvidia-modprobe
