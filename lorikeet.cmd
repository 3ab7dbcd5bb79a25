@echo off
rem Lorikeet's launcher on Windows: finds or installs Deno, which does all else (scripts\launch.ts).
rem `lorikeet --help` lists the commands.
setlocal DisableDelayedExpansion
set "LORIKEET_ROOT=%~dp0"
for /f "usebackq tokens=1,2" %%a in ("%~dp0scripts\launch\deno_versions.txt") do (
  set "LORIKEET_MINIMUM=%%a"
  set "LORIKEET_PINNED=%%b"
)

rem Deno itself compares versions: cmd knows none.
set "LORIKEET_DENO="
for %%d in (deno.exe) do set "LORIKEET_DENO=%%~$PATH:d"
if defined LORIKEET_DENO (
  "%LORIKEET_DENO%" run --quiet --no-config --no-lock --allow-read "%~dp0scripts\launch\new_enough.ts" >nul 2>nul
  if errorlevel 1 set "LORIKEET_DENO="
)
if not defined LORIKEET_DENO set "LORIKEET_DENO=%~dp0.deno\%LORIKEET_PINNED%\deno.exe"
if not exist "%LORIKEET_DENO%" (
  call "%~dp0scripts\launch\install_deno.cmd"
  if errorlevel 1 exit /b 1
)

set "DENO_NO_UPDATE_CHECK=1"
if not defined DENO_TLS_CA_STORE set "DENO_TLS_CA_STORE=system,mozilla"
set "LORIKEET_CACHE=%LOCALAPPDATA%"
if not defined LORIKEET_CACHE set "LORIKEET_CACHE=%~dp0.deno"
if not defined LOCALAPPDATA if not defined DENO_DIR set "DENO_DIR=%~dp0.deno\cache"
"%LORIKEET_DENO%" run --quiet --no-prompt --frozen --config "%~dp0deno.json" --allow-all "%~dp0scripts\launch.ts" "%~dp0." "Windows %PROCESSOR_ARCHITECTURE%" "%LORIKEET_CACHE%" "%LORIKEET_DENO%" %*
exit /b %ERRORLEVEL%
