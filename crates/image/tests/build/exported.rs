//! Exported disks have the image's content.

use std::process::Command;

use archibald_image::{Cancel, Format, export};

use crate::workshop::{Told, Workshop, request, tools};

#[test]
fn exports_compare_equal_and_leave_nothing_beside() {
    let workshop = Workshop::with_base();
    let image = workshop.build(&request(Vec::new()), &Told::default()).unwrap();
    let out = tempfile::tempdir().unwrap();
    for (format, name) in [(Format::Qcow2, "disk.qcow2"), (Format::Raw, "disk.img")] {
        let to = out.path().join(name);
        export(&image, format, &to, &tools(), &Cancel::new()).unwrap();
        let same = Command::new("qemu-img").arg("compare").arg(image.disk()).arg(&to).status();
        assert!(same.unwrap().success());
    }
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 2);

    let nowhere = out.path().join("no/such/disk.qcow2");
    let error = export(&image, Format::Qcow2, &nowhere, &tools(), &Cancel::new()).unwrap_err();
    assert!(error.to_string().contains("no/such"), "{error}");
}
