"""What happens to a running program from outside: signals, full disks, too little memory."""
