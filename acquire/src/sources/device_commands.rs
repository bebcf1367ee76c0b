//! Questions to a disk itself, past the block layer: ATA commands through `SG_IO`, NVMe Identify.
//!
//! Only commands that return data or a number are here. The device is opened for reading; the kernel lets such commands
//! through for root (`CAP_SYS_RAWIO`, `CAP_SYS_ADMIN`) and refuses them to others, which is told and harmless.
//!
//! - SAT-4 (INCITS 491), 12.2.2 ATA PASS-THROUGH (16), 12.2.2.6 ATA Status Return descriptor.
//! - `linux/include/uapi/scsi/sg.h`, `linux/include/uapi/linux/nvme_ioctl.h`.
#![allow(
    unsafe_code,
    reason = "these two ioctls take structures that point to buffers; there is no safe wrapper"
)]

use std::ffi::c_void;
use std::fs::File;
use std::io;

use rustix::ioctl::{Opcode, Updater, ioctl};

use super::hidden_areas::{AtaAnswer, AtaCommand, AtaDevice, NvmeDevice};

const SG_IO: Opcode = 0x2285;
const NVME_IOCTL_ADMIN_CMD: Opcode = 0xC048_4E41;

/// A disk that does not answer within this is not waited for.
const TIMEOUT_MS: u32 = 15_000;

const SENSE: usize = 64;

/// `struct sg_io_hdr`.
#[repr(C)]
struct SgIoHdr {
    interface_id: i32,
    dxfer_direction: i32,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut c_void,
    cmdp: *mut u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut c_void,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}

/// `struct nvme_passthru_cmd`.
#[repr(C)]
#[derive(Default)]
struct NvmeCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

const _: () = assert!(size_of::<NvmeCommand>() == 72);
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<SgIoHdr>() == 88);

impl AtaDevice for File {
    fn ask(&mut self, command: AtaCommand) -> io::Result<AtaAnswer> {
        const NO_DATA: i32 = -1;
        const FROM_DEVICE: i32 = -3;
        let mut cdb = command.cdb();
        let mut data = [0u8; 512];
        let mut sense = [0u8; SENSE];
        let mut header = SgIoHdr {
            interface_id: i32::from(b'S'),
            dxfer_direction: if command.returns_data() { FROM_DEVICE } else { NO_DATA },
            cmd_len: cdb.len() as u8,
            mx_sb_len: SENSE as u8,
            iovec_count: 0,
            dxfer_len: if command.returns_data() { data.len() as u32 } else { 0 },
            dxferp: data.as_mut_ptr().cast(),
            cmdp: cdb.as_mut_ptr(),
            sbp: sense.as_mut_ptr(),
            timeout: TIMEOUT_MS,
            flags: 0,
            pack_id: 0,
            usr_ptr: std::ptr::null_mut(),
            status: 0,
            masked_status: 0,
            msg_status: 0,
            sb_len_wr: 0,
            host_status: 0,
            driver_status: 0,
            resid: 0,
            duration: 0,
            info: 0,
        };
        // SAFETY: SG_IO reads and writes one sg_io_hdr, whose layout this is. Its pointers lead to `cdb`, `data` and
        // `sense`, which outlive the call, with their true lengths; the command's direction is none or from the device.
        unsafe { ioctl(&*self, Updater::<SG_IO, SgIoHdr>::new(&mut header))? };
        if header.host_status != 0 {
            return Err(io::Error::other(format!("the host adapter reported {:#x}", header.host_status)));
        }
        Ok(AtaAnswer { data, sense })
    }
}

impl NvmeDevice for File {
    fn identify(&mut self, namespace: u32, what: u32) -> io::Result<[u8; 4096]> {
        const IDENTIFY: u8 = 0x06;
        let mut data = [0u8; 4096];
        let mut command = NvmeCommand {
            opcode: IDENTIFY,
            nsid: namespace,
            addr: data.as_mut_ptr() as u64,
            data_len: data.len() as u32,
            cdw10: what,
            timeout_ms: TIMEOUT_MS,
            ..NvmeCommand::default()
        };
        // SAFETY: NVME_IOCTL_ADMIN_CMD reads and writes one nvme_passthru_cmd, whose layout and size this is. `addr` leads
        // to `data`, which outlives the call, with its true length; Identify only writes there.
        unsafe { ioctl(&*self, Updater::<NVME_IOCTL_ADMIN_CMD, NvmeCommand>::new(&mut command))? };
        Ok(data)
    }

    fn namespace(&self) -> io::Result<u32> {
        const NVME_IOCTL_ID: Opcode = 0x4E40;
        /// Gives what the call returns.
        struct NamespaceId;
        // SAFETY: NVME_IOCTL_ID takes no argument, touches no memory of ours and returns a number.
        unsafe impl rustix::ioctl::Ioctl for NamespaceId {
            type Output = i32;
            const IS_MUTATING: bool = false;
            fn opcode(&self) -> Opcode {
                NVME_IOCTL_ID
            }
            fn as_ptr(&mut self) -> *mut c_void {
                std::ptr::null_mut()
            }
            unsafe fn output_from_ptr(
                output: rustix::ioctl::IoctlOutput,
                _: *mut c_void,
            ) -> rustix::io::Result<i32> {
                Ok(output)
            }
        }
        // SAFETY: as above.
        let id = unsafe { ioctl(self, NamespaceId)? };
        u32::try_from(id).map_err(io::Error::other)
    }
}
