# SPDX-License-Identifier: Apache-2.0
# What makes a tree into a Debian package; for guest/packages and packaging/packages, which source it
# in the repository's top. They set: $out, where packages go; $work, with a tree $work/NAME for each;
# and license(), which prints the licence of a package.
version=$(sed -n "s/^[[:space:]]*version: '\(.*\)',/\1/p" meson.build | head -n 1)

# deb NAME ARCHITECTURE DEPENDS SUMMARY TEXT: the tree $work/NAME as a package.
deb() {
	root=$work/$1
	mkdir -p "$root/DEBIAN" "$root/usr/share/doc/$1"
	find "$root" -path '*/man/*' -name '*.[0-9]' -exec gzip -9n {} +
	license "$1" >"$root/usr/share/doc/$1/copyright"
	cat >"$root/DEBIAN/control" <<-END
		Package: $1
		Version: $version
		Architecture: $2
		Maintainer: duet's developers <duet@localhost>
		Installed-Size: $(du -sk "$root" | cut -f 1)
		Depends: $3
		Section: ${section:-kernel}
		Priority: optional
		Description: $4
		 $5
	END
	(cd "$root" && find usr -type f -exec md5sum {} +) >"$root/DEBIAN/md5sums"
	dpkg-deb --root-owner-group --build "$root" "$out/$1_${version}_$2.deb"
}

# A package's script; the arguments are dpkg's.
script() {
	mkdir -p "$work/$1/DEBIAN"
	sed "s/@VERSION@/$version/g" >"$work/$1/DEBIAN/$2"
	chmod 755 "$work/$1/DEBIAN/$2"
}
