"""What comes from outside while a run lasts: signals, full disks, too little memory."""
