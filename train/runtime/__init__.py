"""The program and its operating system: signals, full disks, too little memory."""
