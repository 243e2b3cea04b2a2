# Where hosts look for plug-ins: the user's own first, then local ones, then packages.
for _kind in ladspa dssi lv2 lxvst vst vst3 clap; do
    _path="$HOME/.$_kind:/usr/local/lib/$_kind:/usr/lib/x86_64-linux-gnu/$_kind:/usr/lib/$_kind"
    case $_kind in
        ladspa) export LADSPA_PATH="$_path" ;;
        dssi) export DSSI_PATH="$_path" ;;
        lv2) export LV2_PATH="$_path" ;;
        lxvst) export LXVST_PATH="$_path" ;;
        vst) export VST_PATH="$_path" ;;
        vst3) export VST3_PATH="$_path" ;;
        clap) export CLAP_PATH="$_path" ;;
    esac
done
unset _kind _path
