#!/bin/sh
# The tutorial's shop: three services on this host, each in a cgroup and a network namespace of its own, as containers are.
#
#   shop.sh up                  opens it: web (10.88.0.2, port 8443), api (10.88.0.3, port 8000), db (10.88.0.4, port 5432)
#   shop.sh try FROM TO PORT    lets one of them connect to another; `host` is one, too
#   shop.sh down                takes everything away again
#
# As root. Needs iproute2 and socat.
set -eu

services="web api db"
cgroups=$(awk '$(NF - 2) == "cgroup2" { print $5; exit }' /proc/self/mountinfo)

address() {
    case $1 in
        web) echo 10.88.0.2 ;;
        api) echo 10.88.0.3 ;;
        db) echo 10.88.0.4 ;;
        host) echo 10.88.0.1 ;;
        *) echo "shop.sh: there is no $1; there are web, api, db and host" >&2; exit 2 ;;
    esac
}

# Runs a command as a process of a service: in its cgroup, behind its link.
inside() {
    service=$1
    shift
    [ "$service" != host ] || exec "$@"
    # shellcheck disable=SC2016 # These are for the inner shell.
    sh -c 'echo $$ > "$0/cgroup.procs"; net=$1; shift; exec nsenter "--net=$net" "$@"' \
        "$cgroups/shop/$service" "/run/netns/shop-$service" "$@"
}

up() {
    sysctl -q -w net.ipv4.ip_forward=1
    mkdir -p "$cgroups/shop"
    # All of them have one address on the host's side, which no other link needs to know of.
    ip address add 10.88.0.1/32 dev lo
    for service in $services; do
        mkdir -p "$cgroups/shop/$service"
        ip netns add "shop-$service"
        ip link add "v-$service" type veth peer name eth0 netns "shop-$service"
        ip link set "v-$service" up
        ip route add "$(address "$service")/32" dev "v-$service" src 10.88.0.1
        ip -n "shop-$service" link set lo up
        ip -n "shop-$service" address add "$(address "$service")/32" dev eth0
        ip -n "shop-$service" link set eth0 up
        ip -n "shop-$service" route add 10.88.0.1 dev eth0
        ip -n "shop-$service" route add default via 10.88.0.1
    done
    for at in web:8443 api:8000 db:5432; do
        serve "${at%:*}" "${at#*:}"
    done
    echo "the shop is open: $services"
}

# Greets whoever connects, until `down`.
serve() {
    inside "$1" socat -T 5 "TCP-LISTEN:$2,fork,reuseaddr" "SYSTEM:echo hello from $1" < /dev/null > /dev/null 2>&1 &
    until ip netns exec "shop-$1" ss -Hltn "sport = :$2" | grep -q .; do sleep 0.1; done
}

attempt() {
    to=$(address "$2")
    address "$1" > /dev/null
    if answer=$(inside "$1" socat -T 5 - "TCP:$to:$3,connect-timeout=2" < /dev/null 2>&1); then
        echo "$1 -> $2:$3  ${answer:-nobody answers}"
    else
        case $answer in
            *"not permitted"*) echo "$1 -> $2:$3  not permitted" ;;
            *"timed out"*) echo "$1 -> $2:$3  timed out" ;;
            *) echo "$1 -> $2:$3  ${answer##*: }" ;;
        esac
    fi
}

down() {
    for service in $services; do
        # Whoever is in the cgroup is ours; where the kernel can, it ends them all at once.
        if [ -e "$cgroups/shop/$service/cgroup.kill" ]; then echo 1 > "$cgroups/shop/$service/cgroup.kill"; fi
        ip netns delete "shop-$service" 2> /dev/null || true
        ip link delete "v-$service" 2> /dev/null || true
        while ! rmdir "$cgroups/shop/$service" 2> /dev/null && [ -d "$cgroups/shop/$service" ]; do sleep 0.1; done
    done
    if [ -d "$cgroups/shop" ]; then rmdir "$cgroups/shop"; fi
    ip address delete 10.88.0.1/32 dev lo 2> /dev/null || true
    echo "the shop is closed"
}

case "${1-}" in
    up) up ;;
    try) [ $# -eq 4 ] || { echo "usage: shop.sh try FROM TO PORT" >&2; exit 2; }; attempt "$2" "$3" "$4" ;;
    down) down ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
