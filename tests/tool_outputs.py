"""What tools of boards print, as people published it; names of hosts and dates left out."""

# Jetson Xavier NX (JetPack 4.6: power without a unit), a forum's; the GPU's load and clock.
TEGRASTATS_4 = (
    "RAM 2387/7774MB (lfb 961x4MB) SWAP 0/3887MB (cached 0MB) "
    "CPU [14%@1190,9%@1190,2%@1190,4%@1190,0%@1190,1%@1344] EMC_FREQ 1%@1600 GR3D_FREQ 0%@114 "
    "VIC_FREQ 0%@115 APE 150 MTS fg 0% bg 3% AO@31C GPU@31.5C PMIC@100C AUX@31.5C CPU@33C "
    "thermal@31.95C VDD_IN 3528/3569 VDD_CPU_GPU_CV 410/426 VDD_SOC 1107/1115"
)
# Jetson Nano (JetPack 4): the GPU's load alone.
TEGRASTATS_NANO = (
    "RAM 2145/3964MB (lfb 118x4MB) CPU [25%@1479,35%@1479,15%@1479,25%@1479] EMC_FREQ 0% "
    "GR3D_FREQ 45% APE 25 PLL@22C CPU@46.5C PMIC@50C GPU@43C AO@45C thermal@46.2C "
    "POM_5V_IN 4250/4250 POM_5V_GPU 480/480 POM_5V_CPU 1520/1520"
)
# Jetson Orin NX (JetPack 5 and 6): load and the clocks of two parts; two cores are off.
TEGRASTATS_6 = (
    "RAM 3456/15388MB (lfb 20x4MB) SWAP 0/7694MB (cached 0MB) "
    "CPU [12%@1420,8%@1420,off,off,5%@1420,3%@1420,2%@1420,1%@1420] EMC_FREQ 24%@2133 "
    "GR3D_FREQ 87%@[305,306] NVDEC off NVJPG off cpu@52.5C soc2@50C soc0@50C gpu@51C cv0@-256C "
    "tj@53.5C soc1@50C VDD_IN 5000mW/4900mW VDD_CPU_GPU_CV 696mW/696mW VDD_SOC 1104mW/1104mW"
)
# Jetson AGX Thor (JetPack 7): clocks without a load; three numbers for power.
TEGRASTATS_7 = (
    "08-08-2026 20:58:23 RAM 3429/125749MB (lfb 120x4MB) CPU [0%,5%,off]@2601 EMC_FREQ @4266 "
    "GR3D_FREQ @[1574,1574,1574] NVENC0_FREQ @1691 VIC off cpu@49.75C/49.75C tj@51.218C/51.218C "
    "gpu@51.218C/51.218C VDD_GPU 6330mW/6330mW/6330mW VIN_SYS_5V0 15486mW/7424mW/15486mW "
    "VIN 28906mW/14453mW/28906mW"
)
# nvpmodel as root, as another user, and with --verbose (Orin, JetPack 5 and 6; Nano, JetPack 4).
NVPMODEL_NANO = "NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0\n"
NVPMODEL_ORIN = (
    "NV Power Mode: MAXN_SUPER\n2\n"
    "NVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13\n"
)
NVPMODEL_VERBOSE = """\
NVPM VERB: Config file: /etc/nvpmodel.conf
NVPM VERB: parsing done for /etc/nvpmodel.conf
NV Fan Mode:quiet
NVPM VERB: Current mode: NV Power Mode: MODE_15W_6CORE
2
NVPM VERB: PARAM CPU_ONLINE: ARG CORE_0: PATH /sys/devices/system/cpu/cpu0/online: REAL_VAL: 1
"""
NVPMODEL_REBOOT = """\
NVPM WARN: Golden image context is already created
NVPM WARN: Reboot required for changing to this power mode: 1
NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:
NVPM ERROR: optMask is 1, no request for power mode
"""
# jetson_clocks --show, before and after it was run (Nano, shortened).
CLOCKS_FREE = """\
SOC family:tegra210  Machine:jetson-nano
Online CPUs: 0-3
CPU Cluster Switching: Disabled
cpu0: Online=1 Governor=schedutil MinFreq=102000 MaxFreq=1479000 CurrentFreq=825600
GPU MinFreq=76800000 MaxFreq=921600000 CurrentFreq=76800000
EMC MinFreq=204000000 MaxFreq=1600000000 CurrentFreq=1600000000 FreqOverride=0
Fan: PWM=0
NV Power Mode: MAXN
"""
CLOCKS_HELD = CLOCKS_FREE.replace("MinFreq=102000", "MinFreq=1479000").replace(
    "GPU MinFreq=76800000", "GPU MinFreq=921600000"
)
# Xiaomi 13T Pro with Android 16: the cache is 26 degrees above what is measured now.
THERMAL_XIAOMI = """\
IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 4
\tkilled: false
\tbroadcasts count: -1
ThermalStatusListeners:
\tcallbacks: 7
\tkilled: false
\tbroadcasts count: -1
Thermal Status: 1
Cached temperatures:
\tTemperature{mValue=84.208, mType=0, mName=CPU, mStatus=0}
\tTemperature{mValue=84.208, mType=1, mName=GPU, mStatus=0}
\tTemperature{mValue=48.517, mType=3, mName=SKIN, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{mValue=57.9, mType=0, mName=CPU, mStatus=0}
\tTemperature{mValue=34.351, mType=3, mName=SKIN, mStatus=0}
\tTemperature{mValue=42.2, mType=2, mName=BATTERY, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=100, mType=0, mName=test cooling device}
Temperature static thresholds from HAL:
\tTemperatureThreshold{mType=3, mName=SKIN, mHotThrottlingThresholds=[NaN, NaN, NaN, 50.0, 70.0]}
"""
# Samsung Galaxy A52 with Android 12, shortened; sensors that are not there say 0.
THERMAL_SAMSUNG = """\
IsStatusOverride: false
Thermal Status: 0
Cached temperatures:
        Temperature{mValue=0.0, mType=2, mName=SUBBAT, mStatus=0}
        Temperature{mValue=99.9, mType=0, mName=AP, mStatus=0}
HAL Ready: true
HAL connection:
        ThermalHAL 2.0 connected: yes
Current temperatures from HAL:
        Temperature{mValue=25.6, mType=0, mName=AP, mStatus=0}
        Temperature{mValue=23.8, mType=2, mName=BAT, mStatus=0}
        Temperature{mValue=25.7, mType=5, mName=PA, mStatus=0}
        Temperature{mValue=0.0, mType=4, mName=USB, mStatus=0}
Current cooling devices from HAL:
Temperature static thresholds from HAL:
"""
# A phone whose thermal HAL does not answer: only old values.
THERMAL_NO_HAL = """\
IsStatusOverride: false
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=36.0, mType=1, mName=GPU, mStatus=0}
HAL Ready: false
"""
BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3270000
  status: 2
  health: 2
  present: true
  level: 75
  scale: 100
  voltage: 4352
  temperature: 274
  technology: Li-ion
"""
# Samsung Galaxy S24, shortened: a log behind it repeats the names.
BATTERY_WITH_LOG = """\
Current Battery Service state:
  AC powered: true
  status: 2
  health: 2
  present: true
  level: 75
  scale: 100
  temperature: 357
  Capacity level: -1
[EventLogBuffer]
08-11 18:34:14.721  Sending ACTION_BATTERY_CHANGED: level:72, health:2, voltage:4120
"""
